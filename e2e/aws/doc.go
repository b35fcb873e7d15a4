// Package aws runs two clusters, one of which reads its catalog from AWS Cloud Map
// by isthmus-source, against moto's server: a call crosses to what is registered
// there, goes on while AWS is dead, and follows again when it is back.
package aws
