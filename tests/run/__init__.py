"""What a run is and does beside its tasks."""
