// Command isthmus is everything that serves: federation service, gateway and
// embedded CA, and the operator's commands for them. The sections of the
// configuration file decide which roles a process plays.
package main
