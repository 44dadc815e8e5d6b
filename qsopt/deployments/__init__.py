"""What chooses a deployment: legal layouts, the exact optimum over them, what a user asks for."""
