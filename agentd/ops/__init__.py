"""What operators need: live calls, figures, journals."""
