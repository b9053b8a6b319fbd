"""A fully connected and a convolutional VAE on CIFAR-10, compared by a DVC pipeline with MLflow tracking."""

import os

# Read when mlflow is imported, so set before any module here can do that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
