"""End-to-end results of servers, and what serving adds to a decode step."""
