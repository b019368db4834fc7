"""A response that is iterated in Python, because what happens between two blocks is the loop's affair."""


def sent_blocks(call):
    """Yields after each block that was sent; ends the call, with what the application raised if it did."""
    error = None
    try:
        for block in call.blocks:
            if not call.write(block):
                break
            yield
    except BaseException as raised:
        error = raised
    # Freed before the call is said to be over, like everything else of it.
    block = None
    call.end(error)
