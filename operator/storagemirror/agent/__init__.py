"""The process in a sync pod."""
