"""Which interface an application speaks, as far as that can be seen without calling it."""

import functools

CO_COROUTINE = 0x80


def is_asgi(application):
    """Whether it is an ASGI 3 application: a coroutine function, or an object that is called like one."""
    while isinstance(application, functools.partial):
        application = application.func
    return _is_coroutine_function(application) or _is_coroutine_function(
        # How it is called is its class's to say; `callable` would not tell by what.
        vars(_class_with_call(application)).get("__call__")
    )


def _class_with_call(application):
    mro = type(application).__mro__
    return next((base for base in mro if "__call__" in vars(base)), object)


def _is_coroutine_function(function):
    code = getattr(function, "__code__", None)
    # The second is how wrappers say it of themselves (`inspect.markcoroutinefunction`).
    return bool(code and code.co_flags & CO_COROUTINE) or hasattr(function, "_is_coroutine_mark")
