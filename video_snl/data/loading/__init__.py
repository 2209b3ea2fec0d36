"""Batches from worker processes: samplers, loader, quarantine, prefetching."""
