"""NVMe/TCP without I/O: bytes in, events out. No socket, clock or thread, and nothing else of weft's.

Read `target.TargetConnection` and `host.HostConnection` first: receive, take `events`, send. Below them are
`connection` (what both share), `state` (the table), `receiver` (bytes to PDUs), `transfers` (the data that R2Ts ask
for) and `pdu`. `command` reads submission queue entries into the typed commands of `fabrics`, `admin` and `nvm`;
`cqe` and `status` say how they ended. `identify`, `logpage`, `features`, `properties` and `async_event` are what the
admin commands carry, `auth` (over `dhchap_proof`, `dhchap_messages`, `dhchap_key` and `ffdhe`) what the
authentication commands do.

References: "Base" is the NVM Express Base Specification, "NVMe/TCP" the TCP Transport Specification. Integers are
little-endian, offsets and sizes are bytes.
"""
