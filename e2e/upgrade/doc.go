// Package upgrade replaces the gateways of two clusters in place, under calls, new
// connections and streams that go on from the first process to the end: nothing is
// refused, nothing fails, nothing is cut. Then it tries what can go wrong.
package upgrade
