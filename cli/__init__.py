"""One command, `fedwitness`, above every room.

It has no logic of its own: a command reads its options, calls a room and shows what came back.
`command` holds what all commands share, `screen` what they print on, and each other module one
group of commands.
"""
