"""The other site's KME, asked over the inter-KME API."""
