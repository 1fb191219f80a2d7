@echo off
rem An edge as a service of Windows: made, started, asked, stopped, and removed. %1 is the program, this folder is empty.
setlocal
set edge=%1

echo -- made
%edge% init edge
if errorlevel 1 goto bad
%edge% --config edge\holdfast.toml service install
if errorlevel 1 goto bad
reg query HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\holdfast /v EventMessageFile
if errorlevel 1 goto bad

echo -- started, asked and stopped
net start holdfast
if errorlevel 1 goto bad
%edge% --config edge\holdfast.toml status
if errorlevel 1 goto bad
net stop holdfast
if errorlevel 1 goto bad

echo -- started with a configuration that is wrong: why is in the event log
echo absent = 1 > edge\wrong.toml
%edge% --config edge\wrong.toml service install
if errorlevel 1 goto bad
net start holdfast
:ending
sc query holdfast | find "STOPPED"
if errorlevel 1 goto ending

echo -- removed while it runs
%edge% --config edge\holdfast.toml service install
if errorlevel 1 goto bad
net start holdfast
if errorlevel 1 goto bad
%edge% service remove
if errorlevel 1 goto bad
%edge% service remove
if not errorlevel 1 goto bad
reg query HKLM\SYSTEM\CurrentControlSet\Services\EventLog\Application\holdfast
if not errorlevel 1 goto bad
echo the service was made, started, stopped and removed
exit /b 0

:bad
echo FAILED
exit /b 1
