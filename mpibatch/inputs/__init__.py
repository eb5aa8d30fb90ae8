"""Where items come from: one module a format."""
