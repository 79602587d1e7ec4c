"""What a slide's file says of a person: found, and left out of a clean copy. The file itself is never changed."""
