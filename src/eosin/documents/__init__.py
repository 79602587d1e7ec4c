"""Documents become figures: PDFs, articles, EPUB and HTML in; pictures with captions, panels and references out.

pdf/, jats/ and web/ read files, page/ says what a page holds, captions/ and figures/ join the two, panels/ divides,
references/ finds what the text says of it, kinds/ tells histology from plots, view/ draws the page to look at,
work/ runs over many documents.
"""
