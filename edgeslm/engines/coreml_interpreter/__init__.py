"""A MIL interpreter in NumPy: runs a saved ``.mlpackage`` on any system, op by op, as Apple's op definitions say.

package.py       the folder: Manifest.json, the model's bytes, the weight files
proto.py         the message classes of Core ML's protobuf format
program.py       messages → typed, checked structures: functions, operations, constants
blobs.py         weight.bin: constants on disk, dequantised when they are used
signature.py     what an op takes, and how its arguments are checked
ops/             the ops, a few per file
linker.py        every name, op, argument and declared type checked once
budget.py        what a program may use
interpreter.py   running

It shares nothing with the converter that writes packages, so that it can catch its mistakes. Where the definitions
leave a choice to the machine, it takes this one: fp16 ops round their inputs and outputs to fp16 and compute in
float32 between, sums included; an index out of range, a cast that overflows and a tensor without elements are errors.
"""
