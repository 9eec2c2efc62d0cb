"""A structure-aware fuzzer of the front door: `python -m tests.fuzz --minutes 10 [--seed N]`.

Every case begins as a valid, freshly signed or minted request and is then changed by `head`, `authorization`, `tokens`
or `paths`. `oracle` says, without the product's code, what may still be let in; `answers` says which answers exist.
`world` is a gateway in this process, `wire` one in a process of its own that is sent raw bytes. `run` counts.
"""
