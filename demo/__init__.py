"""A whole federation on one machine, and the story that `make demo` tells with it.

`anatomy` and `scans` make the hospitals' data; `federation`, `parties` and `local` set a local
federation up; `story` tells it, with `attempts` and `tampering` for those who cheat; `report`
and `plots` say what came out. It stands above the other rooms, because a story needs node,
aggregator, audit and api at once (docs/decisions/0002-demo-room.md).
"""
