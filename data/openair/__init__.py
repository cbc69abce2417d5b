"""OpenAIR: impulse responses of halls, churches and other places."""
