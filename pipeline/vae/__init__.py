"""The model and how it is trained: pure functions of tensors, without files, MLflow or global random state."""
