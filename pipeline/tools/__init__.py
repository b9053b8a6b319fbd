"""Commands around the pipeline, each `python -m pipeline <tool>`; nothing imports them."""
