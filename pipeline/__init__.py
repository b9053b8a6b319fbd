"""A fully connected and a convolutional VAE on CIFAR-10, compared by a DVC pipeline with MLflow tracking."""

import os

# Read when mlflow is imported, so set before any module here can do that.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")
# A server that went away or hangs must not hold a training up: by default MLflow asks for up to ten minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
