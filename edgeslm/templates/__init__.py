"""Chat templates: Jinja from strangers, rendered as transformers renders it, within a budget of work and memory."""
