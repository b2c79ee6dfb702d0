"""`make demo`: a good revision goes out, bad ones are taken back, on real parts, in front of one's eyes.

`python -m lab.demo` brings the lab and the operator up and then runs `lab.demo.play` inside.
Everything shown is read from the API server and from the users' side of the gateway; what the acts
change, they change with kubectl and the files in `manifests/`, as anybody could.
"""
