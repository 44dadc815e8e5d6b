"""What chooses a deployment: legal layouts, the exact optimum over them, and what a user asks for."""
