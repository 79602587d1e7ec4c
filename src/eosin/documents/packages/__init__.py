"""Files that hold a document with its pictures: tar packages, unpacked with care."""
