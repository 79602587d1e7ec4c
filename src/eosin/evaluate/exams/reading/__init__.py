"""How published layouts are read: places of pictures, tables, drafts of questions."""
