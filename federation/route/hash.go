package route

import "github.com/isthmus-mesh/isthmus/federation/policy"

// HashBits is how many bits of a key's hash are used: what one number of the wire
// holds.
const HashBits = 62

// HashKey is the hash of a sticky key: the same in every gateway of every cluster, since
// it travels. 0 stands for no key. It is FNV-1a with a finalizer, and no defence: who
// chooses keys can choose where they go, which a bound on loads limits.
func HashKey(kind, value string) uint64 {
	h := hashText(kind)
	h = hashMore(h^0xff, value) // no text has this byte, so that two parts cannot shift
	h = mix(h) & (1<<HashBits - 1)
	return max(h, 1)
}

const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func hashText(s string) uint64 { return hashMore(fnvOffset, s) }

func hashMore(h uint64, s string) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// mix spreads what hashText leaves close together (the finalizer of SplitMix64).
func mix(z uint64) uint64 {
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// The salts keep the draws of one key apart: who shares a cluster by its key must not
// share an endpoint by it too.
const (
	saltTier     uint64 = 0x9e3779b97f4a7c15
	saltSubset   uint64 = 0xc2b2ae3d27d4eb4f
	saltCluster  uint64 = 0x165667b19e3779f9
	saltEndpoint uint64 = 0x27d4eb2f165667c5
)

// point is what one draw of a call is taken by: its key, or without one a random
// number, so that calls without a key are spread as weights say.
func (r *Record) point(salt uint64, d *draws) uint64 {
	if h := r.request.Hash; h != 0 {
		return mix(h ^ salt)
	}
	return d.next()
}

// sticks reports whether equal keys are to be drawn alike.
func sticks(t *policy.Traffic, r *Record) bool { return r.request.Hash != 0 && t.Algorithm.Hashes() }
