"""The parameters of each kind of link, checked, and the shipped files of them."""
