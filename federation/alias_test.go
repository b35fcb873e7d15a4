package federation_test

import "github.com/isthmus-mesh/isthmus/federation"

type federationPeer = federation.Peer
