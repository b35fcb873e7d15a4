// Package unit holds what the parts of the AWS source hand to each other.
//
// A unit is one kind of thing (ECS tasks, Auto Scaling groups, ...) of one account
// in one region: what one credential and one endpoint answer for, so what fails or
// succeeds together. A Reader reads one unit, all of it or nothing; a Builder maps
// what it read to catalog services and counts what is left out.
//
// Used by providers/aws, which composes snapshots of units, and by the packages
// below it, each a reader of one kind.
package unit
