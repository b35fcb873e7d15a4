// Command isthmus-source runs one source whose SDK is too heavy for the serving
// process (a cloud's API, Kubernetes), and prints what it reads as the snapshots
// that the federation service's exec source takes. So cloud credentials, and an
// SDK's crash, stay out of the process that serves.
package main
