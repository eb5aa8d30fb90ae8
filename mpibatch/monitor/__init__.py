"""What a run folder tells: status."""
