"""Telling people: messages in the words each receiver expects, and whether they arrived.

A sink says where a message goes and for whom; in a drill only sinks that reach nobody real are used. What was sent is
looked for where it arrived; where nobody lists what arrived, the sink's own answer is all there is to go by.
"""
