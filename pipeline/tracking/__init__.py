"""What never changes a result: records, lineage, checkpoints, and MLflow, which is imported here alone."""
