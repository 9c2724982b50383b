# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, freethreading_compatible=True
# cython: binding=False, embedsignature=True, embedsignature.format=clinic, autotestdict=False
"""The compiled codec: one extension of all `codec/compiled/*.pxi`, and the C functions that they share.

Declarations and the two kinds of classes, pure and hot, are in `_codec.pxd`, the oracle is `codec/plain/`.
No redis, asyncio, clock or I/O may enter: sequence and time are arguments.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_SIZE, PyList_New, PyList_SET_ITEM
from cpython.long cimport PyLong_AsUnsignedLongLong, PyLong_Check, PyLong_CheckExact
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport UINT64_MAX, uint32_t, uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memchr, memcpy, memmove


cdef extern from "Python.h":
    """
    /* Shortens a new bytes object to end at `end`; steals the reference. */
    static inline PyObject *helix_cut_bytes(PyObject *made, const char *end) {
        const Py_ssize_t length = end - PyBytes_AS_STRING(made);
        if (length != PyBytes_GET_SIZE(made))
            _PyBytes_Resize(&made, length);
        return made;
    }
    /* Ends a bytes object that nobody else has seen earlier, and keeps the memory behind that end. */
    static inline void helix_end_bytes(PyObject *made, Py_ssize_t length) {
        Py_SET_SIZE((PyVarObject *)made, length);
        PyBytes_AS_STRING(made)[length] = 0;
    }
    """
    object helix_cut_bytes(PyObject* made, const char* end)
    void helix_end_bytes(PyObject* made, Py_ssize_t length) noexcept
    PyObject* helix_new_bytes "PyBytes_FromStringAndSize" (const char* data, Py_ssize_t length) except NULL
    char* helix_bytes "PyBytes_AS_STRING" (PyObject* made) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void* PyUnicode_1BYTE_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) noexcept    # an int raises nothing here
    const Py_ssize_t PY_SSIZE_T_MAX


include "codec/compiled/arguments.pxi"
include "codec/compiled/escape.pxi"
include "codec/compiled/encode.pxi"
include "codec/compiled/frame.pxi"
include "codec/compiled/lines.pxi"
include "codec/compiled/decode.pxi"
include "codec/compiled/events.pxi"
include "codec/compiled/finite.pxi"
include "codec/compiled/sequence.pxi"
include "codec/compiled/reader.pxi"
include "codec/compiled/append.pxi"
include "codec/compiled/subscribers.pxi"
include "codec/compiled/scan.pxi"
include "codec/compiled/replies.pxi"
include "codec/compiled/shape.pxi"
include "codec/compiled/entry.pxi"
include "codec/compiled/rollup.pxi"
