// Package process turns a configuration into a running process: it builds the
// objects of each role, connects federation and gateway through the
// federation's mesh listener, and runs and stops them in order.
package process
