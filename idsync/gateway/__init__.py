"""The asynchronous client of the gateway's management API: Routero's, or a LiteLLM proxy's.

Read in this order: `dialects` (what is called how), `answers` (what an answer means), `parse` (what is in it),
`gate` (when not to call at all), `transport` (one exchange over the wire), `reader` (the verbs that only read),
`client` (all the verbs idsync uses), `trial` (a key, tried from outside). Import from the module that has the name;
this one stays empty.
"""
