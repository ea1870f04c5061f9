"""The embedded two-region world: real parts on one machine, needing neither root nor a container engine.

What is real here: two PostgreSQL servers with streaming replication over a link that lags or is cut; the dead-man
agent beside each, which is the only TCP door to its server; the witness that sees leases renewed; the application and
its edge load balancers; the loss, when a region is killed while bytes are on the way. What is a stand-in is said by
the part itself (the AWS API answers and keeps metadata, it boots nothing).

`world` has the four verbs (`up`, `status`, `down`, `load`); `supervisor` is the process that owns the world and
`control` its HTTP interface; `links` are the wires, `processes` and `postgres` the handling of processes and servers;
`parts` holds one module per process of the world. A part knows nothing of drkit's engine, and nothing in the engine
knows that there is a sandbox.
"""
