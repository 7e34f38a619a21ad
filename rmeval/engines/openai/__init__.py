"""A model behind any OpenAI-compatible server."""
