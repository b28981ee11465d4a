"""A drill: people made for the purpose leave, and their own keys are tried until every replica has refused them.

    what is done to a key that every replica has just taken | what its refusal shows
    --------------------------------------------------------+------------------------------------------------------
    its owner is fenced, and nothing else                   | the fence is proven; never refused: unsupported
    it is deleted, and nothing else                         | the cache window: how long a deleted key may live here
    its owner leaves, over SCIM                             | the whole chain works, and how long it takes

The three run side by side on accounts of their own. Secrets stay in memory. Everything that is made is written down
before it is made, so that whatever ends a drill, the next start of the daemon removes what is left.
"""
