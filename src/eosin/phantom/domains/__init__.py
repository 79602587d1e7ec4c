"""Phantoms of other domains: CT, dermoscopy, fundus, OCT; labels told apart by structure, not by mean colour."""
