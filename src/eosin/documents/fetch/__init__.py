"""Articles fetched from the cloud service of PubMed Central, politely."""
