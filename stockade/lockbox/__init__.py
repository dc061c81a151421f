"""Customer Lockbox: what approvers sign, how it is verified, and the steps from a request to access that ends. Pure, no I/O.

The broker enforces it, management keeps and moves requests, the command line and the console sign.
"""
