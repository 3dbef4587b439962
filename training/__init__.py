"""The three trainings of ToonCrafter on curated shards; the next releases. The shard contract is `pipeline.shards`."""
