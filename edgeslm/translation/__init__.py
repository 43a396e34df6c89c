"""Translation on top of a bundle whose card (``translation.json``) says what it translates."""
