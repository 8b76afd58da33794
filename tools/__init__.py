"""What works on the files of a net from outside: each tool is importable and a command of its own."""

if __name__ != "blobnet.tools":
    raise ImportError("import blobnet.tools, not tools: a second copy of every class would be made")
