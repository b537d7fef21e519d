"""What watches a run: nothing unauthenticated has an effect, limits are kept, nothing is left over."""
