// Package aws reads AWS as a source: Cloud Map, ECS tasks, target groups of load
// balancers, Auto Scaling groups and EC2 instances by tag, of any number of
// accounts and regions.
//
// # Units
//
// What is read is cut into units, one for each kind of each region of each account,
// which is what fails together. Each unit is read in a rhythm of its own, whole or
// not at all: a page that fails in the middle, a throttled call, an expired
// credential leave the unit as it was last known. A snapshot is the union of all
// units. So the contract of a source (all or nothing) holds for its atoms: a unit
// is never half, nothing is published before every unit has been read once, and a
// unit that cannot be read takes nothing away. One that fails does not stop the
// others' changes, since a region that is down must not freeze the endpoints of
// those that took over; it is reported for as long as it lasts.
//
// A snapshot that repeats what was published says that everything was read anew,
// so it is published only after a full read of every unit: the guard in the parent
// counts these reads as witnesses of a withdrawal.
//
// # Permissions
//
// policy.json lists the actions, and nothing else is called.
//
// The readers are packages below this one, one a kind; unit holds what they hand
// over, account how accounts are opened. Used by cmd/isthmus-source.
package aws
