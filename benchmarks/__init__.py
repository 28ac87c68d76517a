"""
The benchmarks: this project and its peers, on one server, in one run, with ratios.

The laws: nothing leaves this machine; every client does the same work, is started by its public command and is
checked for what it stored; nobody's start-up counts; no figure is a test. Linux only: cores are pinned, and memory
is read from ``/proc``.
"""
