"""From the user's file, a URL or the simulated demo to checked shards of whole donors."""
