"""`keeptune demo`: the product at work on real handwritten digits, watched from outside.

data       scanned digits, split so that nothing that is measured was ever trained on; the camera
processes  the control plane, Triton and the agent, each a process of its own
policy     what is wanted for the digit classifier
traffic    requests to Triton at a steady pace, and the true labels some seconds later
watching   what the services and the agent say, as it happens
timeline   everything that was seen, and the summary of it
screen     the terminal while it runs
report     one page: a picture and a self-contained HTML file
story      the acts, in their order
command    the command line
"""
